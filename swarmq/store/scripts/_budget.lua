-- Taking a model call from a swarm's budgets. A reservation is what a call is expected to use; its holder (a branch, or
-- a job such as the plan) keeps it until the answer is recorded, then what was really used takes its place.
local RESERVED = {'reserved', 'reserved_tokens', 'reserved_nano_usd'}

local function number(value) return tonumber(value or 0) end

-- Put the holder's reservation at steps, tokens and cost; what it held before is given back. own: what it holds.
local function hold_reservation(counters, own, steps, tokens, nano_usd)
  if steps ~= own[1] then redis.call('HINCRBY', counters, 'reserved_steps', steps - own[1]) end
  if tokens ~= own[2] then redis.call('HINCRBY', counters, 'reserved_tokens', tokens - own[2]) end
  if nano_usd ~= own[3] then redis.call('HINCRBY', counters, 'reserved_nano_usd', nano_usd - own[3]) end
  return {steps, tokens, nano_usd}
end

-- Whether a call may start. Returns the option whose limit leaves no room for it whatever the calls in flight use, ''
-- for none; and 'budget' where it has to wait for what those will have used.
local function room_for(counters, most_steps, most_tokens, most_nano_usd, own, tokens, nano_usd)
  local c = redis.call('HMGET', counters, 'reserved_steps', 'input_tokens', 'output_tokens', 'reserved_tokens',
    'cost_nano_usd', 'reserved_nano_usd')
  if most_steps and own[1] == 0 and number(c[1]) >= tonumber(most_steps) then return 'max_total_steps', '' end
  local hold = ''
  local function check(most, used, others, wanted)
    if not most or most == '' then return true end
    if used + wanted > tonumber(most) then return false end
    if used + others + wanted > tonumber(most) then hold = 'budget' end
    return true
  end
  if not check(most_tokens, number(c[2]) + number(c[3]), number(c[4]) - own[2], tokens) then return 'max_tokens', '' end
  if not check(most_nano_usd, number(c[5]), number(c[6]) - own[3], nano_usd) then return 'max_cost_usd', '' end
  return '', hold
end
