//! One test binary, so that it links once. Each module is one subject.

mod golden_dotenv;
mod golden_render;
mod random;
mod text_hostile;
mod text_model;
mod text_properties;
