-- The transcripts of this folder, read and played by the library itself: lua/khp/transcript.

return require "khp.transcript"
