-- The JSON that --json prints. This file must not know how JSON is written.

return require "khp.json"
