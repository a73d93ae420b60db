-- uses: swarm
-- Append to a stream of the swarm (events, audit), once per call id.
-- KEYS: swarm, the stream
-- ARGV: call id, most entries to keep (0: all), entries ...
local swarm = load_swarm()
if swarm.err then return swarm end
if not first_time(ARGV[1]) then return 0 end
for i = 3, #ARGV do
  if ARGV[2] == '0' then
    redis.call('XADD', KEYS[2], '*', 'e', ARGV[i])
  else
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'e', ARGV[i])
  end
end
keep(swarm, KEYS[2])
return 1
