-- uses: swarm
-- Which of the things that stand still are to be sent again now: each at growing intervals, however many look.
-- KEYS: swarm
-- ARGV: call id, first interval and longest interval in seconds, names ...
-- Returns the names that are due. A name should change when its thing has moved, so that the intervals start anew.
local swarm = load_swarm()
if swarm.err then return swarm end
local once, key, due = BASE .. 'once:' .. ARGV[1], BASE .. 'nudges', {}
local before = redis.call('GET', once)
if before then return cjson.decode(before) end
for i = 4, #ARGV do
  local times, next_at = string.match(redis.call('HGET', key, ARGV[i]) or '0 0', '(%S+) (%S+)')
  if tonumber(next_at) <= NOW then
    local wait = math.min(tonumber(ARGV[3]), tonumber(ARGV[2]) * 2 ^ tonumber(times))
    redis.call('HSET', key, ARGV[i], (tonumber(times) + 1) .. ' ' .. stamp(NOW + wait))
    due[#due + 1] = ARGV[i]
  end
end
if #due > 0 then
  redis.call('SET', once, cjson.encode(due), 'EX', ONCE_SECONDS)
  keep(swarm, key)
end
return due
