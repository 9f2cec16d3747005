-- ARGV: 1 generation that is over, 2 whether these are its last buckets. KEYS from 2 on: its buckets.
if call('HGET', M, 'g') == ARGV[1] then return 'GEN' end
for k = 2, #KEYS do call('UNLINK', KEYS[k]) end
if ARGV[2] == '1' then
  local og = call('HGET', M, 'og') or ''
  local a, b = string.find(og, ARGV[1] .. ',', 1, true)
  if a then call('HSET', M, 'og', sub(og, 1, a - 1) .. sub(og, b + 1)) end
end
return '+'
