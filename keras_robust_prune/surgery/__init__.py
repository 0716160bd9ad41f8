"""How a change is made: plans, merging, masking, cutting."""
