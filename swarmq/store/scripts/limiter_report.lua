-- uses: limiter learning
-- A call has ended, or gives up waiting: take back its permit or place, and learn from what it met.
-- ARGV[6..9]: ticket, verdict, Retry-After in seconds, jitter from 0 to 1
-- ARGV[10..15]: limit, remaining and reset in seconds of the server's buckets for requests and for tokens, '' not told
-- ARGV[16]: tokens that the call took, 0: unknown
-- Returns 1, or 0 where the ticket was given back before or has expired.
local id, verdict = ARGV[6], ARGV[7]
load()
local t = read_ticket(id)
if t and t.start == 0 then
  leave_queue(id, t)
elseif t then
  local in_flight = redis.call('ZCARD', PERMITS)
  redis.call('ZREM', PERMITS, id)
  redis.call('HDEL', TICKETS, id)
  settle_tokens(t, tonumber(ARGV[16]))
  if verdict == 'answered' then
    answered(t, in_flight)
  elseif verdict == 'limited' or verdict == 'overloaded' then
    refused(t, verdict == 'limited', tonumber(ARGV[8]), tonumber(ARGV[9]))
  elseif verdict == 'unused' then
    s.current = math.max(0, s.current - 1)
  end
  told_requests(tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]))
  told_tokens(tonumber(ARGV[13]), tonumber(ARGV[14]), tonumber(ARGV[15]))
end
local wait = grant()
if wait and not promised(math.min(wait, IDLE_SECONDS)) then  -- somebody has to come when the time has come
  local head = redis.call('ZRANGE', QUEUE, 0, 0)[1]
  ring(read_ticket(head).process)
end
save()
return t and 1 or 0
