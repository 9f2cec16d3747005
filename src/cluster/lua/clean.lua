-- ARGV: 1 generation; then index and owner of each that no bucket holds any more.
if call('HGET', M, 'g') ~= ARGV[1] then return 'GEN' end
for a = 2, #ARGV, 2 do
  if call('HGET', M, 'c' .. ARGV[a]) == ARGV[a + 1] then
    call('HSET', M, 'gc', with(call('HGET', M, 'gc'), tonumber(ARGV[a]), false))
    call('HDEL', M, 'c' .. ARGV[a])
  end
end
return '+'
