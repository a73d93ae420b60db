-- uses: swarm
-- A producer was sent the value of an ended swarm. Repeating it changes nothing. After the last one the swarm is done with.
-- KEYS: swarm, swarmq:active
-- ARGV: Celery task id
local swarm = load_swarm()
if swarm.err then return swarm end
redis.call('SADD', BASE .. 'told', ARGV[1])
redis.call('HDEL', BASE .. 'canvases', ARGV[1])
keep(swarm, BASE .. 'told')
if swarm.final and redis.call('HLEN', BASE .. 'canvases') == 0 then redis.call('SREM', KEYS[2], ID) end
return 1
