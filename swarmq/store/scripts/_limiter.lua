-- The limits of one model endpoint, for the whole fleet. Shared by the scripts limiter_*.
-- KEYS: state, permits, queue, tickets, shares, processes
-- ARGV[1..5]: most calls in flight, how many to begin with, least seconds between two starts, requests per second or
--             '', tokens per second or ''
-- A ticket is a call: it waits in the queue or holds a permit; `tickets` has its fields. The queue is in fair order.
-- A permit has a time from which the call may start, a little ahead, so that no command is spent on waiting for it.
local CLOCK = redis.call('TIME')
local NOW = tonumber(CLOCK[1]) + tonumber(CLOCK[2]) / 1000000
local MOST, INITIAL, SPACING = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local REQUEST_RATE, TOKEN_RATE = tonumber(ARGV[4]), tonumber(ARGV[5])
local STATE, PERMITS, QUEUE, TICKETS, SHARES, PROCESSES = unpack(KEYS)
local AHEAD_SECONDS = 0.05     -- permits for starts this far off are given out
local CATCH_UP_SECONDS = 0.05  -- starts that were due this long ago are not lost when nobody came for them
local DEAD_SECONDS = 10        -- a process silent this long waits for nothing; it has this long to fetch a permit
local IDLE_SECONDS = 1         -- how often who waits looks without being rung
local BACKUP_SECONDS = 0.25    -- how long after the one who promised to look
local PROBE = 0.1               -- of the ceiling: how far beyond it the rate is after a second plateau
local MOST_DEBT_SECONDS = 600
local SERIES_SECONDS = 2         -- after this long without a refusal the endpoint takes calls again, answered or not
local KEPT_SECONDS = 3600      -- what was learned is forgotten this long after the last call

local s = {
  limit = INITIAL, slow_start = 1, virtual = 0, hold_until = 0, last_start = 0, slot = 0, token_slot = 0, token_ratio = 1,
  floor = 0, ceiling = 0, age = 0, plateau = 5, cut_at = 0, crowded_at = 0, sample_starts = 0, series_at = 0, taken = 0,
  misses = 0, window_at = 0, current = 0, previous = 0, request_rate = 0, request_until = 0, told_tokens = 0,
  tokens_until = 0, blocked = '', ran_at = NOW, poll_at = 0, kept_at = 0,
}

local TIMES = {'hold_until', 'last_start', 'slot', 'token_slot', 'cut_at', 'crowded_at', 'series_at', 'window_at',
  'request_until', 'tokens_until', 'poll_at', 'kept_at'}

local function load()
  local known = redis.call('GET', STATE)
  if known then
    for name, value in pairs(cjson.decode(known)) do s[name] = value end
  end
  if s.ran_at > NOW then  -- another server's clock, after a fail-over: what was to pass by then has not grown longer
    local back = s.ran_at - NOW
    for _, name in ipairs(TIMES) do s[name] = s[name] - back end
  end
  if s.blocked == 'rate' then s.age = s.age + math.min(NOW - s.ran_at, 1) end  -- a rate nobody wants proves nothing
  s.ran_at = NOW
  if NOW - s.hold_until > SERIES_SECONDS then s.misses = 0 end
end

local function save()
  if s.blocked ~= '' then s.crowded_at = NOW end
  redis.call('SET', STATE, cjson.encode(s), 'EX', KEPT_SECONDS)
  if NOW - s.kept_at > KEPT_SECONDS / 2 then
    s.kept_at = NOW
    for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, KEPT_SECONDS) end
  end
end

local STILL_WAITING = '0.000000|'

local function parse_ticket(raw)
  if not raw then return nil end
  local start, tokens, lease, process, swarm = string.match(raw, '^(.-)|(.-)|(.-)|(.-)|(.*)$')
  return {start = tonumber(start), tokens = tonumber(tokens), lease = tonumber(lease), process = process, swarm = swarm}
end

local function read_ticket(id) return parse_ticket(redis.call('HGET', TICKETS, id)) end

local function write_ticket(id, t)
  local raw = string.format('%.6f|%.3f|%.3f|%s|%s', t.start, t.tokens, t.lease, t.process, t.swarm)
  redis.call('HSET', TICKETS, id, raw)
end

-- Of what the endpoint usually takes, while one refusal follows another and nothing is answered: it takes nothing for now.
local function share() return 0.5 ^ math.max(0, math.min(6, s.misses - 1)) end

-- Starts per second that were learned from refusals: up fast to just below the ceiling, a plateau, then a gentle probe.
local function learned_rate()
  if s.floor == 0 then return nil end
  local x = s.age / s.plateau - 1
  local reach = s.ceiling - s.floor
  if x > 0 then reach = math.max(reach, PROBE * s.ceiling) end
  return (s.ceiling + reach * x * x * x) * share()
end

local function least(...)
  local found
  for i = 1, select('#', ...) do
    local value = select(i, ...)
    if value and (not found or value < found) then found = value end
  end
  return found
end

local function start_rate()
  return least(learned_rate(), REQUEST_RATE, NOW < s.request_until and s.request_rate)
end

local function token_rate()
  return least(TOKEN_RATE, NOW < s.tokens_until and s.told_tokens)
end

-- Starts are counted in windows, to know what the endpoint took lately.
local function window_seconds()
  local rate = learned_rate()
  return rate and math.min(30, math.max(2, 20 / rate)) or 2
end

local function count_start(at)
  local window = window_seconds()
  if at - s.window_at >= window then
    s.previous = at - s.window_at < 2 * window and s.current or 0
    s.window_at, s.current = at, 0
  end
  s.current, s.taken = s.current + 1, s.taken + 1
end

-- When the next call may start, and what it has to wait for.
local function next_start(gap, tokens)
  local at, why = NOW, ''
  local function not_before(time, reason) if time > at then at, why = time, reason end end
  not_before(s.hold_until, 'refused')
  not_before(s.last_start + SPACING, 'spacing')
  not_before(math.max(s.slot + gap, NOW - CATCH_UP_SECONDS), 'rate')
  if tokens then not_before(s.token_slot, 'tokens') end
  return at, why
end

-- Tokens that were taken have to flow in again before the next start; a nonsensical figure holds up nobody for long.
local function charge(from, seconds) s.token_slot = math.min(from + seconds, NOW + MOST_DEBT_SECONDS) end

-- Give the ticket a permit. `fetched`: its process hears of it now, and does not have to come for it.
local function permit(id, t, start, gap, tokens, fetched)
  t.start = start
  s.slot = math.max(s.slot + gap, start - CATCH_UP_SECONDS)
  s.last_start = math.max(s.last_start, start)
  t.tokens = t.tokens * s.token_ratio
  if tokens then charge(math.max(s.token_slot, NOW), t.tokens / tokens) end
  count_start(start)
  write_ticket(id, t)
  redis.call('ZADD', PERMITS, string.format('%.6f', start + (fetched and t.lease or DEAD_SECONDS)), id)
end

local function drop_expired()
  local expired = redis.call('ZRANGEBYSCORE', PERMITS, '-inf', string.format('%.6f', NOW))
  for _, id in ipairs(expired) do
    redis.call('ZREM', PERMITS, id)
    redis.call('HDEL', TICKETS, id)
  end
end

local function leave_queue(id, t)
  redis.call('ZREM', QUEUE, id)
  redis.call('HDEL', TICKETS, id)
  if redis.call('HEXISTS', SHARES, t.swarm) == 1 then redis.call('HINCRBY', SHARES, t.swarm, -1) end
end

local function alive(process)
  return NOW - tonumber(redis.call('HGET', PROCESSES, process) or 0) < DEAD_SECONDS
end

local function ring(process) redis.call('PUBLISH', string.sub(STATE, 1, -6) .. 'ring:' .. process, '') end

-- Permits for those who may start now, in fair order; rings the processes of those who got one. Returns how long until
-- the next one could start, nil where only a call's end can tell.
local function grant(own)
  drop_expired()
  local rate, tokens = start_rate(), token_rate()
  local gap, rung = rate and 1 / rate or 0, {}
  local free = math.max(1, math.floor(math.min(s.limit, MOST) * share())) - redis.call('ZCARD', PERMITS)
  s.blocked = ''
  while true do
    local head = redis.call('ZRANGE', QUEUE, 0, 0, 'WITHSCORES')
    if not head[1] then return nil end
    local id, t = head[1], read_ticket(head[1])
    if not t or not alive(t.process) then
      if t then leave_queue(id, t) else redis.call('ZREM', QUEUE, id) end
    else
      if free <= 0 then
        s.blocked = 'concurrency'
        return nil
      end
      local start, why = next_start(gap, tokens)
      if start > NOW + AHEAD_SECONDS then
        s.blocked = why
        return start - NOW - AHEAD_SECONDS
      end
      redis.call('ZREM', QUEUE, id)
      local share = tonumber(head[2])
      s.virtual = math.max(s.virtual, share)
      if tonumber(redis.call('HGET', SHARES, t.swarm) or 0) <= share then redis.call('HDEL', SHARES, t.swarm) end
      permit(id, t, start, gap, tokens, id == own)
      free = free - 1
      if id ~= own and not rung[t.process] then
        rung[t.process] = true
        ring(t.process)
      end
    end
  end
end

local function promised(wait) return s.poll_at > NOW and s.poll_at < NOW + wait + 0.02 end

-- When the caller should look again, in seconds, and whether it is the one that all others rely on for it.
local function look_again(wait)
  if s.blocked == '' then return IDLE_SECONDS, 0 end
  wait = math.min(wait or IDLE_SECONDS, IDLE_SECONDS)
  if promised(wait) then return s.poll_at - NOW + BACKUP_SECONDS, 0 end
  s.poll_at = NOW + wait
  return wait, 1
end

local function present(process)
  if redis.call('HSET', PROCESSES, process, string.format('%.6f', NOW)) == 0 then return end
  local heard = redis.call('HGETALL', PROCESSES)  -- a new one comes: those that are long gone leave
  for i = 1, #heard, 2 do
    if NOW - tonumber(heard[i + 1]) > KEPT_SECONDS then redis.call('HDEL', PROCESSES, heard[i]) end
  end
end
