-- ARGV: 1 generation, 2 field of the user, 3 data of the event, 4 id of the call. KEYS: m, e, bucket. Tells all to close the connections of
-- a user; returns how many are counted.
local m = call('HMGET', M, 'g', 'live')
if m[1] ~= ARGV[1] then return 'GEN' end
if once(ARGV[4]) then tell('k', ARGV[3]) end
local v, sum = call('HGET', KEYS[3], ARGV[2]) or '', 0
for p = 1, #v, 5 do
  local a, b, c, d, e = byte(v, p, p + 4)
  if bit(m[2], a * 256 + b) then sum = sum + c * 65536 + d * 256 + e end
end
return { tostring(sum) }
