-- uses: swarm totals sweep
-- Remove all keys of a swarm, whatever its state: its workers then find that they hold nothing.
-- KEYS: swarm, swarmq:active, swarmq:swarms, swarmq:totals
-- ARGV: what _sweep.lua wants
-- Returns 1; repeating it finds nothing to do.
local state = redis.call('HGET', SWARM, 'state')
if state and not FINAL[state] then add_up(KEYS[4]) end
each_key(1, function(key) redis.call('UNLINK', key) end)
redis.call('SREM', KEYS[2], ID)
redis.call('ZREM', KEYS[3], ID)
return 1
