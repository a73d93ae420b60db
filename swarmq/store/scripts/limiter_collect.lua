-- uses: limiter
-- Look for the permits of a process's waiting calls, and see whether somebody may start by now.
-- ARGV[6..]: process, tickets ...
-- Returns when to look again, whether others rely on it, what is waited for, then for each ticket that no longer waits
-- its id and the seconds until its start (-1: nobody knows the ticket, ask again).
load()
present(ARGV[6])
local wait, relied = look_again(grant())
local found = {string.format('%.6f', wait), relied, s.blocked}
for i = 7, #ARGV do
  local t = read_ticket(ARGV[i])
  if not t or t.start > 0 then
    found[#found + 1] = ARGV[i]
    found[#found + 1] = t and string.format('%.6f', math.max(0, t.start - NOW)) or '-1'
    if t then redis.call('ZADD', PERMITS, string.format('%.6f', t.start + t.lease), ARGV[i]) end
  end
end
save()
return found
