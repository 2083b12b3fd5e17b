# Names that rules of features go by until they are rewritten.

VARIANTS = config["trajectories"]["variants"]
LEVEL_SPACES = SPACES.levels
STEP_SPACES = SPACES.steps
BLOCK_SPACES = SPACES.blocks
VARIANT_SPACES = SPACES.variants
CONTROLS = config["trajectories"]["controls"]
CONTROL_SPACES = SPACES.controls
