-- The caller has published what it holds. Ends every other index of its node, in the same step.
local node = string.match(ARGV[3], '^[^.]+%.')
owners(call('HGET', M, 'here'), function(i, n)
  if i ~= me and sub(n, 1, #node) == node then finish(i) end
end)
local v = call('HMGET', M, 'live', 'up', 'T', 'A', 'T' .. I, 'A' .. I)
if not bit(v[1], me) then
  call('HSET', M, 'live', with(v[1], me, true), 'T', num(v[3]) + num(v[5]), 'A', num(v[4]) + num(v[6]))
end
call('HSET', M, 'up', with(v[2], me, true))
tell('j', sub(ARGV[3], 1, #node - 1) .. ' ' .. (call('HGET', M, 'N' .. I) or ''))
return done('')
