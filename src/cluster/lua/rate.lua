-- Rates by GCRA on the server's clock, ms.
local function clock()
  local t = call('TIME')
  return t[1] * 1000 + t[2] / 1000
end
local function u24(n)
  n = math.min(math.ceil(n), 16777215)
  return char(floor(n / 65536), floor(n / 256) % 256, n % 256)
end
-- The arrival time of a key, not before now. With `born`, the time since which nothing was lost, the burst counts as
-- spent at that time. A clock that was set back must not lock a key out for longer than its burst.
local function arrival(key, now, interval, burst, born)
  local a = num(call('GET', key))
  if born then a = math.max(a, born + interval * burst) end -- rule: doubt
  return math.max(now, math.min(a, now + interval * burst))
end
local function arrived(key, now, a)
  if a > now then call('SET', key, string.format('%.3f', a), 'PX', math.ceil(a - now)) end
end
