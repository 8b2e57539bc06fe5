"""IP Insights: which addresses are usual for an entity."""
