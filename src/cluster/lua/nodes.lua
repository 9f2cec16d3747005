-- ARGV: 1 generation. Returns id, name, connections, age of the latest beat in ms, and whether it is up, of each process.
local m = call('HMGET', M, 'g', 'here', 'live', 'up')
if m[1] ~= ARGV[1] then return 'GEN' end
local t, out = call('TIME'), {}
local ms = t[1] * 1000 + floor(t[2] / 1000)
for i = 0, #m[2] * 8 - 1 do
  if bit(m[2], i) then
    local n = call('HMGET', M, 'n' .. i, 'N' .. i, 'T' .. i, 't' .. i)
    out[#out + 1] = string.match(n[1] or '', '^[^.]*'); out[#out + 1] = n[2] or ''
    out[#out + 1] = tostring(bit(m[3], i) and num(n[3]) or 0)
    out[#out + 1] = tostring(math.max(0, ms - num(n[4])))
    out[#out + 1] = bit(m[4], i) and '1' or '0'
  end
end
return out
