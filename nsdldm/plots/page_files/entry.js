export {
  AmbientLight, BufferAttribute, BufferGeometry, DirectionalLight, Group, LineBasicMaterial, LineSegments,
  Mesh, MeshLambertMaterial, OrthographicCamera, Quaternion, Raycaster, Scene, Vector2, Vector3, WebGLRenderer,
} from "three";
