-- uses: limiter
-- Look for the permits of a process's waiting calls, and see whether somebody may start by now.
-- ARGV[6..]: process, tickets ...
-- Returns when to look again, whether others rely on it, what is waited for, then for each ticket that no longer waits
-- its id and the seconds until its start (-1: nobody knows the ticket, ask again).
load()
present(ARGV[6])
local wait, relied = look_again(grant())
local found = {string.format('%.6f', wait), relied, s.blocked}
local raws = #ARGV > 6 and redis.call('HMGET', TICKETS, unpack(ARGV, 7)) or {}
for i, raw in ipairs(raws) do
  if not raw or string.sub(raw, 1, #STILL_WAITING) ~= STILL_WAITING then
    local id, t = ARGV[6 + i], parse_ticket(raw)
    found[#found + 1] = id
    found[#found + 1] = t and string.format('%.6f', math.max(0, t.start - NOW)) or '-1'
    if t then redis.call('ZADD', PERMITS, string.format('%.6f', t.start + t.lease), id) end
  end
end
save()
return found
