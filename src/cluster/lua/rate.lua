-- Rates by GCRA on the server's clock, ms.
local function clock()
  local t = call('TIME')
  return t[1] * 1000 + t[2] / 1000
end
local function u24(n)
  n = math.min(math.ceil(n), 16777215)
  return char(floor(n / 65536), floor(n / 256) % 256, n % 256)
end
-- The time by which the arrival time of a key lies ahead of now: beside the time of day, sums of small intervals would
-- be rounded. With `born`, the time since which nothing was lost, the burst counts as spent at that time. A clock that was
-- set back must not lock a key out for longer than its burst.
local function ahead_of(key, now, interval, burst, born)
  local a = num(call('GET', key))
  if born then a = math.max(a, born + interval * burst) end -- rule: doubt
  return math.max(0, math.min(a - now, interval * burst))
end
local function arrived(key, now, ahead)
  if ahead > 0 then call('SET', key, string.format('%.3f', now + ahead), 'PX', math.ceil(ahead)) end
end
-- The time until a cost conforms, 0 if it does. Sums of thirds are rounded: without the tolerance a burst could be one
-- short.
local function late_by(ahead, interval, burst, cost)
  local late = ahead + interval * cost - interval * burst
  return late > math.min(0.001, interval / 1000) and late or 0
end
