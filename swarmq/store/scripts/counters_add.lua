-- uses: swarm
-- Add to a swarm's counters, once per call id.
-- KEYS: swarm
-- ARGV: call id, counter, delta, counter, delta ...
local swarm = load_swarm()
if swarm.err then return swarm end
if not first_time(ARGV[1]) then return 0 end
for i = 2, #ARGV, 2 do redis.call('HINCRBYFLOAT', BASE .. 'counters', ARGV[i], ARGV[i + 1]) end
keep(swarm, BASE .. 'counters')
return 1
