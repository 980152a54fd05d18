"""How the nano checkpoints are made: pictures, distillation, scores and the model card."""
