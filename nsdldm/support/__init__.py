"""What every stage needs: errors, logs, files, devices, hubs, resuming."""
