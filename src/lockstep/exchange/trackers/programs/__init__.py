"""Programs that are run alone, in processes in which importing Lockstep fails."""
