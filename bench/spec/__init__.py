"""What a run is: frozen records, the alphabet of recipes, identities and seeds."""
