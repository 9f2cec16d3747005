-- ARGV: 1 generation; then field and name of each user, the name empty to take it back. KEYS: m; then the hash of names
-- and the bucket of each.
if call('HGET', M, 'g') ~= ARGV[1] then return 'GEN' end
for a = 2, #ARGV, 2 do
  local f, name = ARGV[a], ARGV[a + 1]
  if name ~= '' then call('HSET', KEYS[a], sub(f, 2), name)
  elseif not call('HGET', KEYS[a + 1], f) then call('HDEL', KEYS[a], sub(f, 2)) end
end
return '+'
