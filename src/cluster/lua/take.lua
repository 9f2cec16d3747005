-- ARGV: 1 generation, 2 '1' if nothing may be admitted that was possibly lost; then key, interval in ms, burst and cost of each.
-- KEYS: m, then the keys. Returns success, remaining, ms until all is there again, ms until it may succeed, of each.
-- A server that has lost everything knows no time since which nothing was lost.
local m = call('HMGET', M, 'g', 'born')
if m[1] ~= ARGV[1] then return 'GEN' end
local now, born = clock(), ARGV[2] == '1' and num(m[2])
local known, out = {}, {}
for a = 3, #ARGV, 4 do
  local k, interval, burst, cost = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local ahead = known[k] or ahead_of(KEYS[k], now, interval, burst, born)
  -- Another caller of this batch may have another rate.
  ahead = math.min(ahead, interval * burst)
  local late = late_by(ahead, interval, burst, cost)
  local ok = late == 0
  if ok then ahead = ahead + interval * cost end
  known[k] = ahead
  if ok and cost > 0 then arrived(KEYS[k], now, ahead) end
  out[#out + 1] = ok and '1' or '0'
  out[#out + 1] = tostring(math.max(0, floor((interval * burst - ahead) / interval + 1e-3)))
  out[#out + 1] = tostring(math.max(0, math.ceil(ahead - 0.001)))
  out[#out + 1] = tostring(ok and 0 or math.max(1, math.ceil(late)))
end
return out
