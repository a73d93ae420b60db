-- uses: budget
-- Append to a branch's transcript, tell events, count, and take the next call from the swarm's budgets: the one write
-- of a step's half, and on the path of every step, so it loads no whole records and gets all its keys.
-- KEYS: swarm, branch, transcript, events, counters
-- ARGV: token, call id, position of the first entry, '1' to reserve the next step ('' not to), tokens and nano-USD that
--       it is expected to use, steps, tool calls, input, output, cached, cache write tokens, nano-USD, calls without a
--       known price, number of entries, entries ..., events ...
-- Returns the limit that was reached, why the branch has to stop, and why the reserved step has to wait ('paused',
-- 'budget'); each '' for none. Where it has to wait nothing was reserved.
-- A step is counted in reserved_steps when it is reserved, in steps when its entries come. A holder that dies with a
-- reserved step leaves it to the next one.
local b = redis.call('HMGET', KEYS[2], 'state', 'token', 'call', 'limit', 'hold', 'cancel_reason', unpack(RESERVED))
local function lost(why) return {err = 'LEASELOST ' .. KEYS[2] .. ' ' .. why} end
if b[1] ~= 'running' or b[2] ~= ARGV[1] then return lost('has another holder, or has ended') end
local s = redis.call('HMGET', KEYS[1], 'cancel_reason', 'expire_at', 'paused_at', 'max_total_steps', 'max_tokens',
  'max_nano_usd')
local stop = b[6] or s[1] or (s[2] and 'the swarm has ended') or ''
if b[3] == ARGV[2] then return {b[4], stop, b[5]} end  -- the reply to this very call was lost
if redis.call('LLEN', KEYS[3]) ~= tonumber(ARGV[3]) then return lost('has a transcript of another length') end

local last = 15 + tonumber(ARGV[15])
for i = 16, last do redis.call('RPUSH', KEYS[3], ARGV[i]) end
for i = last + 1, #ARGV do redis.call('XADD', KEYS[4], 'MAXLEN', '~', 100000, '*', 'e', ARGV[i]) end

local names = {'steps', 'tool_calls', 'input_tokens', 'output_tokens', 'cached_tokens', 'cache_write_tokens',
  'cost_nano_usd', 'unpriced_calls'}
for i, name in ipairs(names) do
  local delta = ARGV[6 + i]
  if delta ~= '0' then
    redis.call('HINCRBY', KEYS[2], name, delta)
    redis.call('HINCRBY', KEYS[5], name, delta)
  end
end

local own = {number(b[7]), number(b[8]), number(b[9])}
local steps = tonumber(ARGV[7])
if steps > 0 then  -- used: the reserved step is spent, and what it was expected to use is given back
  if steps > own[1] then redis.call('HINCRBY', KEYS[5], 'reserved_steps', steps - own[1]) end
  own[1] = math.max(0, own[1] - steps)
  own = hold_reservation(KEYS[5], own, own[1], 0, 0)
end
local limit, hold = '', ''
if ARGV[4] ~= '' then
  local tokens, nano_usd = tonumber(ARGV[5]), tonumber(ARGV[6])
  if s[3] then
    hold = 'paused'
  else
    limit, hold = room_for(KEYS[5], s[4], s[5], s[6], own, tokens, nano_usd)
  end
  if limit == '' and hold == '' then
    own = hold_reservation(KEYS[5], own, 1, tokens, nano_usd)
  else
    own = hold_reservation(KEYS[5], own, 0, 0, 0)
  end
end
redis.call('HSET', KEYS[2], 'call', ARGV[2], 'limit', limit, 'hold', hold, RESERVED[1], own[1], RESERVED[2], own[2],
  RESERVED[3], own[3])
if s[2] then for i = 3, 5 do redis.call('EXPIREAT', KEYS[i], s[2]) end end
return {limit, stop, hold}
