"""Two models of people's own, told apart: their units paired, their numbers aligned, the first difference explained.

who is asked        client (a side's process), party (a model with what was put right in it), batches, transfer
what is the same    mapping (units), alignment (tensors, by their values), outputs, permutations, tolerances
the search          passes (until both are equal), places (the first difference), feeders, injection, strides, gates
the cause           alternatives (what a call could be made with), laboratory (which reproduces), activations
what else differs   parameters, averages, gradients, dropout, evidence (whether equal proves anything)
training            training, stages, losses and formulas, optimizers and trajectories, steps, loaders, feed,
                    initializers
what is told        wording (sentences), remedies (which line to write), rewrites (how it is written), graph, bundle
difference          all of it, in one document
"""
