-- ARGV 5: fields of 10 bytes, 6: u16 for each, its key; 7: u24 for each, its count; 8, 9: seats, anonymous seats.
-- Replaces what the caller's column says. Returns how many fields said something else, and how many users are over their limit.
local F, B, C = ARGV[5], ARGV[6], ARGV[7]
local id = char(floor(me / 256), me % 256)
local differing, over = 0, 0
local most = num(call('HGET', M, 'lU'))
local live = call('HGET', M, 'live')
for j = 1, #B / 2 do
  local f = sub(F, j * 10 - 9, j * 10)
  local hi, lo = byte(B, j * 2 - 1, j * 2)
  local key = KEYS[hi * 256 + lo]
  local v = call('HGET', key, f) or ''
  local r, own = '', ''
  for p = 1, #v, 5 do
    local e = sub(v, p, p + 4)
    if sub(e, 1, 2) == id then own = e else r = r .. e end
  end
  local n = sub(C, j * 3 - 2, j * 3)
  local sum = byte(n, 1) * 65536 + byte(n, 2) * 256 + byte(n, 3)
  for p = 1, #r, 5 do
    local a, b, c, d, e = byte(r, p, p + 4)
    if bit(live, a * 256 + b) then sum = sum + c * 65536 + d * 256 + e end
  end
  if sub(f, 1, 1) == 'u' and sum > most then over = over + 1 end
  local new = n == '\0\0\0' and '' or id .. n
  if new ~= own then
    differing = differing + 1
    r = r .. new
    if r == '' then call('HDEL', key, f) else call('HSET', key, f, r) end
  end
end
-- The totals differ by what `T<i>` said, not by the buckets, which may have lost a key.
local v = call('HMGET', M, 'T' .. I, 'A' .. I, 'T', 'A', 'live')
local T, A = tonumber(ARGV[8]), tonumber(ARGV[9])
if T ~= num(v[1]) or A ~= num(v[2]) then
  call('HSET', M, 'T' .. I, T, 'A' .. I, A)
  if bit(v[5], me) then call('HSET', M, 'T', num(v[3]) + T - num(v[1]), 'A', num(v[4]) + A - num(v[2])) end
end
return done(differing .. ' ' .. over)
