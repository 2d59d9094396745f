-- khp completion SHELL: what a shell needs to complete khp's commands and options. This file must not know them.

local cli = require "khp.cli"

local completion = {
  summary = "prints what bash, zsh or fish needs to complete khp's commands",
  usage = "bash|zsh|fish",
  description = [[
Prints what a shell needs to complete khp's commands and options.]],
  examples = [[
source <(khp completion bash)            in ~/.bashrc
khp completion zsh > ~/.zfunc/_khp       a folder of zsh's fpath
khp completion fish > ~/.config/fish/completions/khp.fish]],
}

---@param command table
function completion.describe(command)
  command:argument "SHELL":target "shell":description("bash, zsh or fish."):choices { "bash", "zsh", "fish" }
end

--- The text for a shell.
---@param shell "bash"|"zsh"|"fish"
---@return string
function completion.text(shell)
  local parser = require("khp.cli.frame").parser()
  return parser["get_" .. shell .. "_complete"](parser)
end

---@param given table
---@return integer status
function completion.run(given)
  cli.write(completion.text(given.shell))
  return cli.OK
end

return completion
