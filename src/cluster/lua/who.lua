-- ARGV: 1 generation, 2 field of the user. KEYS: m, e, bucket. Returns id, name and connections of each process.
local m = call('HMGET', M, 'g', 'live')
if m[1] ~= ARGV[1] then return 'GEN' end
local v, out = call('HGET', KEYS[3], ARGV[2]) or '', {}
for p = 1, #v, 5 do
  local a, b, c, d, e = byte(v, p, p + 4)
  local i = a * 256 + b
  if bit(m[2], i) then
    local n = call('HMGET', M, 'n' .. i, 'N' .. i)
    out[#out + 1] = string.match(n[1] or '', '^[^.]*'); out[#out + 1] = n[2] or ''
    out[#out + 1] = tostring(c * 65536 + d * 256 + e)
  end
end
return out
