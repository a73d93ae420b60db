-- Lead, or prolong the lease of who leads already. A lease that ran out is renewed as long as nobody else leads.
-- KEYS: flight
-- ARGV: who (swarm/branch), lease in ms
-- Returns whether the caller leads (1 or 0).
local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
