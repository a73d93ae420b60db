-- uses: pods
-- Give back a permit or a place, and wake those who wait. Nothing happens where a later holder has it.
-- ARGV: ticket, fencing token
-- Returns 1, or 0 where there was nothing to give back.
local t = read_ticket(ARGV[1])
if not t or t.token > tonumber(ARGV[2]) then return 0 end
forget(ARGV[1])
ring()
return 1
