-- uses: swarm totals sweep
-- End a swarm; the first result stays. From here on all its keys live for keep_seconds.
-- KEYS: swarm, swarmq:active, swarmq:events, swarmq:totals
-- ARGV: state, result, result branch or '', event, what _sweep.lua wants ...
-- Returns 1 where the stored result is this one, so also to the repeated call. 0 and nothing done where the swarm was
-- marked cancelled after its result was made up: whoever cancelled it was told that it will end so.
local swarm = load_swarm()
if swarm.err then return swarm end
if swarm.final then return redis.call('HGET', SWARM, 'result') == ARGV[2] and 1 or 0 end
if ARGV[1] ~= 'cancelled' and redis.call('HEXISTS', SWARM, 'cancel_reason') == 1 then return 0 end
local expire_at = math.ceil(NOW + tonumber(redis.call('HGET', SWARM, 'keep_seconds')))
redis.call('HSET', SWARM, 'state', ARGV[1], 'result', ARGV[2], 'branch', ARGV[3],
  'finished_at', stamp(NOW), 'expire_at', expire_at)
redis.call('HDEL', SWARM, 'paused_at', 'pause_reason')  -- a paused swarm that was cancelled is not paused any more
-- With producers to tell it stays in the set until they are told, so that reconcile sees to it.
if redis.call('HLEN', BASE .. 'canvases') == 0 then redis.call('SREM', KEYS[2], ID) end
add_up(KEYS[4])
redis.call('HINCRBY', KEYS[4], 'swarms:' .. ARGV[1], 1)
emit(swarm, ARGV[4])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', FLEET_EVENTS_KEPT, '*', 'e', ARGV[4])
each_key(5, function(key) redis.call('EXPIREAT', key, expire_at) end)
return 1
