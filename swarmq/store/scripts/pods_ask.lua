-- uses: pods
-- Ask for a permit; whoever gets none waits in the queue. Asking again changes nothing but what the ticket is worth: a
-- permit is good for some time more, a place is kept. A branch's next holder takes over what the last one had.
-- ARGV: ticket, fencing token, swarm, pods at once, seconds that a permit is good for
-- Returns 0 for a permit, else the place in the queue.
local id, token, swarm, budget = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local good_until = stamp(NOW + tonumber(ARGV[5]))
local function answer(place)
  keep_keys()
  return place
end

drop_expired()
local t = read_ticket(id)
if t and t.token > token then return redis.error_reply('LEASELOST the pod of ' .. id .. ' has another holder') end
write_ticket(id, token, swarm)
if redis.call('ZADD', PERMITS, 'XX', 'CH', good_until, id) == 1 or redis.call('ZSCORE', PERMITS, id) then return answer(0) end
if not redis.call('ZSCORE', QUEUE, id) then
  local served = tonumber(redis.call('HGET', SHARES, SERVED) or 0)
  local share = math.max(served, tonumber(redis.call('HGET', SHARES, swarm) or 0)) + 1
  redis.call('HSET', SHARES, swarm, share)
  redis.call('ZADD', QUEUE, share, id)
end
local free, place = budget - redis.call('ZCARD', PERMITS), 1
for _, other in ipairs(redis.call('ZRANGE', QUEUE, 0, -1)) do
  if other == id then break end
  local waiting = read_ticket(other)
  if waiting and NOW - waiting.asked < DEAD_SECONDS then place = place + 1 else forget(other) end
end
if place > free then return answer(place) end
local share = tonumber(redis.call('ZSCORE', QUEUE, id))
redis.call('ZREM', QUEUE, id)
redis.call('HSET', SHARES, SERVED, math.max(share, tonumber(redis.call('HGET', SHARES, SERVED) or 0)))
if tonumber(redis.call('HGET', SHARES, swarm) or 0) <= share then redis.call('HDEL', SHARES, swarm) end
redis.call('ZADD', PERMITS, good_until, id)
return answer(0)
