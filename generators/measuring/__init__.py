"""How good generators are: their distance from photographs, copying and collapse."""
