-- uses: limiter
-- Ask for a permit; whoever gets none waits in the queue. Asking again changes nothing.
-- Fair between swarms: each ticket gets the next share of its swarm, no lower than the share that was served last, and
-- the lowest is served first. So a swarm with one call is next whatever another one has queued.
-- ARGV[6..10]: ticket, process, swarm, tokens that the call is thought to take, seconds that its permit is good for
-- Returns seconds until the start (-1: not yet), when to look again, whether others rely on it, what is waited for.
local id, process = ARGV[6], ARGV[7]
load()
present(process)
local t = read_ticket(id)
if not t then
  t = {start = 0, tokens = tonumber(ARGV[9]), lease = tonumber(ARGV[10]), process = process, swarm = ARGV[8]}
  local share = math.max(s.virtual, tonumber(redis.call('HGET', SHARES, t.swarm) or 0)) + 1
  redis.call('HSET', SHARES, t.swarm, share)
  redis.call('ZADD', QUEUE, share, id)
  write_ticket(id, t)
end
local wait, relied = look_again(grant(id))
t = read_ticket(id)
local delay = -1
if t.start > 0 then
  delay = math.max(0, t.start - NOW)
  redis.call('ZADD', PERMITS, string.format('%.6f', t.start + t.lease), id)
end
save()
return {string.format('%.6f', delay), string.format('%.6f', wait), relied, s.blocked}
