-- The caller ends its own index.
tell('l', string.match(ARGV[3], '^[^.]+') .. ' ' .. (call('HGET', M, 'N' .. I) or ''))
finish(me)
return '+'
