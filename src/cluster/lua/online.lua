-- ARGV: 1 generation, 2 names wanted. KEYS: m, e; then the hash of names and the bucket of each. Returns how many
-- buckets were read, then the names in them that have a seat: some more than wanted, since a bucket is read whole.
local m = call('HMGET', M, 'g', 'live')
if m[1] ~= ARGV[1] then return 'GEN' end
local out, most = { '0' }, tonumber(ARGV[2])
for k = 3, #KEYS, 2 do
  local l = call('HGETALL', KEYS[k])
  for x = 1, #l, 2 do
    local v = call('HGET', KEYS[k + 1], 'u' .. l[x]) or ''
    for p = 1, #v, 5 do
      local a, b = byte(v, p, p + 1)
      if bit(m[2], a * 256 + b) then out[#out + 1] = l[x + 1]; break end
    end
  end
  out[1] = tostring((k - 1) / 2)
  if #out > most then break end
end
return out
