-- uses: swarm
-- Add what a producer's message wants called after the swarm. Repeating it changes nothing, nor does a message that comes
-- again after its producer was told.
-- KEYS: swarm, swarmq:task:<id>, swarmq:active
-- ARGV: Celery task id, canvas
local swarm = load_swarm()
if swarm.err then return swarm end
if redis.call('SISMEMBER', BASE .. 'told', ARGV[1]) == 1 then return 0 end
redis.call('HSET', BASE .. 'canvases', ARGV[1], ARGV[2])
redis.call('SET', KEYS[2], ID)
if swarm.final then redis.call('SADD', KEYS[3], ID) end  -- so that reconcile sees to it
keep(swarm, BASE .. 'canvases')
keep(swarm, KEYS[2])
return 1
