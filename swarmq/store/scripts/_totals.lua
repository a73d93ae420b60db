-- What swarms have used outlives their records: it is added to the fleet's when they go; needs _swarm.lua.
local TOTALLED = {'steps', 'tool_calls', 'input_tokens', 'output_tokens', 'cached_tokens', 'cost_nano_usd',
  'unpriced_calls', 'lost_leases', 'retries', 'rate_limit_wait_seconds', 'cache_hits',
  'cache_misses'}

local function add_up(totals)
  local used = redis.call('HMGET', BASE .. 'counters', unpack(TOTALLED))
  for i, name in ipairs(TOTALLED) do
    if used[i] then redis.call('HINCRBYFLOAT', totals, name, used[i]) end
  end
end
