-- The caller ends its own index.
finish(me)
return '+'
