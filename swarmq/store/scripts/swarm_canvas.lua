-- uses: swarm
-- Add what a producer's message wants called after the swarm. Repeating it changes nothing.
-- KEYS: swarm, swarmq:task:<id>
-- ARGV: Celery task id, canvas
local swarm = load_swarm()
if swarm.err then return swarm end
redis.call('HSET', BASE .. 'canvases', ARGV[1], ARGV[2])
redis.call('SET', KEYS[2], ID)
keep(swarm, BASE .. 'canvases')
keep(swarm, KEYS[2])
return 1
