-- uses: swarm budget branch
-- Publish a result for the other branches of the swarm; a key's newer value replaces the older one.
-- KEYS: swarm
-- ARGV: call id, key, time to live in seconds or '', most bytes per swarm, branch id or '', token,
--       value, and as JSON: key, producer, schema, tags
local swarm = load_swarm()
if swarm.err then return swarm end
if ARGV[5] ~= '' and not holds(load_branch(ARGV[5]), ARGV[6]) then return lost(ARGV[5]) end
if redis.call('GET', BASE .. 'once:' .. ARGV[1]) then return 0 end
local shared, index, news = BASE .. 'shared', BASE .. 'shared-index', BASE .. 'shared-news'
local expires = ARGV[3] ~= '' and stamp(NOW + tonumber(ARGV[3])) or '0'
local result = '{"v":' .. VERSION .. ',"key":' .. ARGV[8] .. ',"producer":' .. ARGV[9] .. ',"schema":' .. ARGV[10]
  .. ',"tags":' .. ARGV[11] .. ',"published_at":' .. stamp(NOW) .. ',"expires_at":' .. expires .. ',"value":' .. ARGV[7] .. '}'
local more = #result - redis.call('HSTRLEN', shared, ARGV[2])
local size = tonumber(redis.call('HGET', BASE .. 'counters', 'shared_bytes') or 0)
if size + more > tonumber(ARGV[4]) then
  return refuse('USAGE', 'value: the shared results of swarm ' .. ID .. ' would exceed ' .. ARGV[4] .. ' bytes')
end
first_time(ARGV[1])
redis.call('HINCRBY', BASE .. 'counters', 'shared_bytes', more)
redis.call('HSET', shared, ARGV[2], result)
redis.call('HSET', index, ARGV[2], '{"producer":' .. ARGV[9] .. ',"tags":' .. ARGV[11] .. ',"expires_at":' .. expires .. '}')
redis.call('XADD', news, 'MAXLEN', '~', 10000, '*', 'key', ARGV[2])
for _, key in ipairs({shared, index, news, BASE .. 'counters'}) do keep(swarm, key) end
redis.call('PUBLISH', shared, '')
return 1
