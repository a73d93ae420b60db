-- What an endpoint's limits are taken to be after a call; needs _limiter.lua.
local LEAST_RATE = 0.02
local UNCROWDED = 4            -- times what was taken while nobody waited, an endpoint may well take
local LEAST_STARTS = 5           -- fewer say nothing of a rate
local FAR_BELOW = 4             -- times what was taken since an earlier refusal, the rate is no longer believed
local MARGIN = 0.95             -- of the rate that the endpoint took, after a refusal
local CUT = 0.8                 -- of the calls in flight, after a refusal
local MAX_TOLD_SECONDS = 600    -- a Retry-After is believed up to here
local MAX_RESET_SECONDS = 60    -- a bucket's reset is often the time until it is full: it need not be, for the next call
local MAX_BACKOFF_SECONDS = 30
local PLATEAU_SECONDS, MAX_PLATEAU_SECONDS = 5, 60
local PLATEAU_PER_HOLD = 25     -- a refusal that holds all calls for 1 s is risked no oftener than every 35 s or so

local function hold(seconds) s.hold_until = math.max(s.hold_until, NOW + seconds) end

local function settle_tokens(t, took)
  if took <= 0 then return end
  local rate = token_rate()
  if rate then charge(s.token_slot, (took - t.tokens) / rate) end
  local guess = t.tokens / s.token_ratio  -- caches and answers make a call cost more or less than its size says
  if guess > 0 then s.token_ratio = math.min(10, math.max(0.01, s.token_ratio + 0.1 * (took / guess - s.token_ratio))) end
end

local function answered(t, in_flight)
  if t.start > s.series_at + AHEAD_SECONDS then s.misses = 0 end
  if in_flight * 2 < s.limit then return end  -- a limit that is not made use of proves nothing
  s.limit = math.min(MOST, s.limit + (s.slow_start == 1 and 1 or 1 / s.limit))
end

-- The rate after a refusal, from what the endpoint took shortly before. Refusals that come later, of calls that were
-- in flight then, correct it. Where no call had waited, what it took was what was asked for: it may take more.
local function set_rate()
  local took = s.sample_rate * (1 - s.sample_refused / s.sample_starts)
  local floor, before = MARGIN * took, s.sample_before
  if before > 0 then floor = math.min(MARGIN * before, math.max(before / 2, floor)) end
  s.floor = floor > 0 and math.max(LEAST_RATE, floor) or 0
  local ceiling = before > 0 and math.min(before, took) or took
  if s.sample_crowded == 0 then ceiling = before > 0 and before or UNCROWDED * took end
  s.ceiling = math.max(0.99 * ceiling, 1.03 * s.floor)
end

local function cut_rate()
  local before = learned_rate() or 0
  local window, span = window_seconds(), math.max(0, NOW - s.window_at)
  local weight = s.previous > 0 and math.max(0, 1 - span / window) or 0
  local starts, seconds = s.previous * weight + s.current, span + window * weight
  local rate = starts / math.max(0.2, seconds)
  s.sample_starts = 0
  if before > 0 and (seconds < 0.5 or starts < LEAST_STARTS) then  -- too little to go by: the rate was a bit too high
    rate, starts = before, math.max(starts, 20)
    -- Or far too high, so that calls in flight bounded the starts: as the pauses tell, which are in this figure.
    local since = NOW - s.series_at
    if since > 1 and FAR_BELOW * s.taken / since < before then rate = s.taken / since end
  elseif starts < LEAST_STARTS then return end
  s.sample_rate, s.sample_starts, s.sample_refused, s.sample_before = rate, starts, 1, before
  s.sample_since, s.sample_crowded = s.cut_at, s.crowded_at >= s.window_at - window * weight and 1 or 0
  set_rate()
end

-- A call that started after the last cut was refused, so that cut was not enough; one that was in flight then says
-- nothing new. `by_rate`: 429, where the server counts calls in a time.
local function refused(t, by_rate, retry_after, jitter)
  local told = math.min(retry_after, MAX_TOLD_SECONDS)
  if t.start > s.series_at then s.taken = math.max(0, s.taken - 1) end
  if told > 0 then hold(told + jitter * math.min(0.05 * told, 1)) end
  if t.start > s.cut_at + AHEAD_SECONDS then
    s.limit = math.max(1, s.limit * CUT)
    if s.misses == 0 then
      if by_rate then cut_rate() end
      s.series_at, s.taken = NOW, 0
      -- Where a rate is known, it bounds the calls in flight as well: those of a slow model may soon be many again.
      if s.floor == 0 or not by_rate then s.slow_start = 0 end
    end
    s.cut_at, s.misses, s.age = NOW, s.misses + 1, 0
    -- Without a word of the server: a few starts left out, so that its bucket is not empty, and more the longer none
    -- is answered.
    local pause = s.floor > 0 and math.min(1, 3 / s.floor) or 0.25
    pause = math.min(MAX_BACKOFF_SECONDS, math.max(2 * AHEAD_SECONDS, pause) * 2 ^ math.min(20, s.misses - 1))
    if told == 0 then hold(pause * (1 + jitter / 4)) end
    s.plateau = math.min(MAX_PLATEAU_SECONDS, math.max(PLATEAU_SECONDS, PLATEAU_PER_HOLD * (s.hold_until - NOW)))
    s.window_at, s.current, s.previous = s.hold_until, 0, 0
  elseif by_rate and s.sample_starts > 0 and t.start > s.sample_since and t.start <= s.series_at + AHEAD_SECONDS then
    s.sample_refused = math.min(s.sample_starts, s.sample_refused + 1)
    set_rate()
  end
end

-- A bucket that is more than half full bounds nothing. Below that, (limit - remaining) / reset is how fast a token
-- bucket fills, and no less than what a window has left: both are used up to the brim, and neither runs dry.
local function told_rate(limit, remaining, reset)
  if not remaining or not reset or reset <= 0 then return nil end
  if remaining <= 0 then hold(math.min(reset, MAX_RESET_SECONDS)) end
  if limit and limit > 0 and remaining < limit / 2 then return math.max(LEAST_RATE, (limit - remaining) / reset) end
end

local function told_requests(limit, remaining, reset)
  local rate = told_rate(limit, remaining, reset)
  if rate then s.request_rate, s.request_until = rate, NOW + reset
  elseif remaining then s.request_until = 0 end
end

local function told_tokens(limit, remaining, reset)
  local rate = told_rate(limit, remaining, reset)
  if rate then s.told_tokens, s.tokens_until = rate, NOW + reset
  elseif remaining then s.tokens_until = 0 end
end
