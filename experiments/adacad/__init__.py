"""AdaCAD: context-aware decoding as strong as the conflict with memory."""
