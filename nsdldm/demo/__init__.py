"""Write a simulated release in the exact format of the Natural Scenes Dataset."""
