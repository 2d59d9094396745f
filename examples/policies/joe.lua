-- A client's policy: Joe, who gives his password once. A second 401 means that it was wrong.

return {
  challenge = function(challenge, attempt)
    if challenge.scheme == "Basic" and attempt == 1 then
      return { username = "joe", password = "open sesame" }
    end
  end,
}
