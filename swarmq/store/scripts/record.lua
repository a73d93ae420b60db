-- Append to a branch's transcript, tell events, count, and take the next step from the swarm's budget: the one write
-- of a step's half, and on the path of every step, so it shares no code and names its keys itself.
-- KEYS: swarm, branch, transcript, events, counters
-- ARGV: token, call id, position of the first entry, most steps of the swarm ('' where no step is to be reserved),
--       steps, tool calls, input, output, cached, cache write tokens, number of entries, entries ..., events ...
-- Returns the limit that was reached and why the branch has to stop, '' for none.
-- A step is counted in reserved_steps when it is reserved, in steps when its entries come. A holder that dies with a
-- reserved step leaves it to the next one.
local b = redis.call('HMGET', KEYS[2], 'state', 'token', 'call', 'limit', 'cancel_reason', 'reserved')
local function lost(why) return {err = 'LEASELOST ' .. KEYS[2] .. ' ' .. why} end
if b[1] ~= 'running' or b[2] ~= ARGV[1] then return lost('has another holder, or has ended') end
local s = redis.call('HMGET', KEYS[1], 'cancel_reason', 'expire_at')
local stop = b[5] or s[1] or (s[2] and 'the swarm has ended') or ''
if b[3] == ARGV[2] then return {b[4], stop} end  -- the reply to this very call was lost
if redis.call('LLEN', KEYS[3]) ~= tonumber(ARGV[3]) then return lost('has a transcript of another length') end

local last = 11 + tonumber(ARGV[11])
for i = 12, last do redis.call('RPUSH', KEYS[3], ARGV[i]) end
for i = last + 1, #ARGV do redis.call('XADD', KEYS[4], 'MAXLEN', '~', 100000, '*', 'e', ARGV[i]) end

local names = {'steps', 'tool_calls', 'input_tokens', 'output_tokens', 'cached_tokens', 'cache_write_tokens'}
for i, name in ipairs(names) do
  local delta = ARGV[4 + i]
  if delta ~= '0' then
    redis.call('HINCRBY', KEYS[2], name, delta)
    redis.call('HINCRBY', KEYS[5], name, delta)
  end
end

local reserved, limit = tonumber(b[6] or 0), ''
local steps = tonumber(ARGV[5])
if steps > reserved then redis.call('HINCRBY', KEYS[5], 'reserved_steps', steps - reserved) end
reserved = math.max(0, reserved - steps)
if ARGV[4] ~= '' and reserved == 0 then
  if tonumber(redis.call('HGET', KEYS[5], 'reserved_steps') or 0) < tonumber(ARGV[4]) then
    redis.call('HINCRBY', KEYS[5], 'reserved_steps', 1)
    reserved = 1
  else
    limit = 'max_total_steps'
  end
end
redis.call('HSET', KEYS[2], 'call', ARGV[2], 'limit', limit, 'reserved', reserved)
if s[2] then for i = 3, 5 do redis.call('EXPIREAT', KEYS[i], s[2]) end end
return {limit, stop}
