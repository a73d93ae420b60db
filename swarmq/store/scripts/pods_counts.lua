-- uses: pods
-- Returns how many permits are held, and how many tickets wait for one.
drop_expired()
local waiting = 0
for _, id in ipairs(redis.call('ZRANGE', QUEUE, 0, -1)) do
  local t = read_ticket(id)
  if t and NOW - t.asked < DEAD_SECONDS then waiting = waiting + 1 end
end
return {redis.call('ZCARD', PERMITS), waiting}
