-- Give up the lead and ring those that wait. Repeating it only rings again, and who is rung looks for itself.
-- KEYS: flight
-- ARGV: who (swarm/branch)
local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', KEYS[1], '')
return 1
