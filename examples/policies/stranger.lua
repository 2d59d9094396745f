-- A client's policy: nobody in particular, with no credentials to give.

return {
  challenge = function()
    return nil
  end,
}
