-- uses: swarm budget
-- What such a call has used takes the place of what it was expected to use; once per call id.
-- KEYS: swarm
-- ARGV: what the call was for, call id, counter, delta, counter, delta ...
local swarm = load_swarm()
if swarm.err then return swarm end
if not first_time(ARGV[2]) then return 0 end
local counters, jobs = BASE .. 'counters', BASE .. 'jobs'
local names = {ARGV[1] .. ':' .. RESERVED[2], ARGV[1] .. ':' .. RESERVED[3]}
local f = redis.call('HMGET', jobs, unpack(names))
hold_reservation(counters, {0, number(f[1]), number(f[2])}, 0, 0, 0)
redis.call('HDEL', jobs, unpack(names))
for i = 3, #ARGV, 2 do redis.call('HINCRBY', counters, ARGV[i], ARGV[i + 1]) end
keep(swarm, counters)
return 1
